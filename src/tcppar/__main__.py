from tcppar.cli import main

main()
