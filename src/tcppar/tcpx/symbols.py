"""TCPX's numbers by their names: opcodes, flags, the SR_ bits of signals; and the settings that are ours alone.

Sources: MicroSabio's reference, "TCPX Opcodes" and "Flags"; the A-Shell release notes 855.1, 996.3 and 1179.0. What the
manuals that could be read do not tell is marked "ours".
"""

from enum import Enum, IntEnum, IntFlag


class Opcode(IntEnum):
    """What TCPX is to do. 3 and all above 12 are unknown, and answered by -22 (EINVAL)."""

    TCPOP_ACCEPT = 1
    TCPOP_WRITE = 2
    TCPOP_READ = 4
    TCPOP_SHUTDOWN = 5
    TCPOP_CLOSE = 6
    TCPOP_CHECK = 7
    TCPOP_CHKQTY = 8
    TCPOP_CONNECT = 9
    TCPOP_CONNECT_GREETING = 10  # the number is TCPX's, the name ours: connect, then wait for the server's greeting
    TCPOP_ERRMSG = 11
    TCPOP_STARTTLS = 12


class Flag(IntFlag):
    """Flags of ACCEPT and CONNECT. Bits without a name are ignored."""

    TCPXFLG_BLOCK = 0x1
    TCPXFLG_LISTEN = 0x4
    TCPXFLG_ASYNC = 0x8
    TCPXFLG_KEEPLISTEN = 0x10
    TCPXFLG_TLS = 0x0010_0000  # ours: the number is not told
    TCPXFLG_STARTTLS = 0x0020_0000


class Half(IntFlag):
    """Flags of SHUTDOWN, which takes no others (ours: the numbers are not told)."""

    TCPXFLG_SHUTRD = 1
    TCPXFLG_SHUTWR = 2


COUNT_MASK = int(Flag.TCPXFLG_TLS) - 1
"""What is left for the byte count of READ and WRITE where the flags may have the bits of TLS too."""


class Interrupted(Enum):
    """What a signal that this process handles does to a call that waits.

    Attributes:
        RETRY: nothing; the call waits for what is left of its time.
        ERRNO: the call ends, with the status -4, the negative of EINTR.
        RAW: the call ends, with what select(2) itself returns, -1: so it is under AIX.
    """

    RETRY = "retry"
    ERRNO = "errno"
    RAW = "raw"


class EndOfStream(Enum):
    """What CHECK and CHKQTY tell of a peer that has closed, when nothing is left to read.

    Attributes:
        STATUS: -32, the negative of EPIPE.
        READABLE: what a bare select(2) and FIONREAD tell, 1 and 0: for programs that go by a READ of 0 bytes.
    """

    STATUS = "status"
    READABLE = "readable"


class SignalBit(IntFlag):
    """The bits of MX_GETSIG."""

    SR_INT = 0x1
    SR_CHLD = 0x2
    SR_USR1 = 0x4
    SR_USR2 = 0x8
    SR_HUP = 0x10
    SR_KILL = 0x20  # never seen
    SR_TSTP = 0x40
    SR_ALARM = 0x80
    SR_TERM = 0x100
    SR_PIPE = 0x200
    SR_SYSCALL = 0x4000  # no signal: inside a system() call; never set here. Older pages say 0x400


TCPOP_ACCEPT = Opcode.TCPOP_ACCEPT
TCPOP_WRITE = Opcode.TCPOP_WRITE
TCPOP_READ = Opcode.TCPOP_READ
TCPOP_SHUTDOWN = Opcode.TCPOP_SHUTDOWN
TCPOP_CLOSE = Opcode.TCPOP_CLOSE
TCPOP_CHECK = Opcode.TCPOP_CHECK
TCPOP_CHKQTY = Opcode.TCPOP_CHKQTY
TCPOP_CONNECT = Opcode.TCPOP_CONNECT
TCPOP_CONNECT_GREETING = Opcode.TCPOP_CONNECT_GREETING
TCPOP_ERRMSG = Opcode.TCPOP_ERRMSG
TCPOP_STARTTLS = Opcode.TCPOP_STARTTLS

TCPXFLG_BLOCK = Flag.TCPXFLG_BLOCK
TCPXFLG_LISTEN = Flag.TCPXFLG_LISTEN
TCPXFLG_ASYNC = Flag.TCPXFLG_ASYNC
TCPXFLG_KEEPLISTEN = Flag.TCPXFLG_KEEPLISTEN
TCPXFLG_TLS = Flag.TCPXFLG_TLS
TCPXFLG_STARTTLS = Flag.TCPXFLG_STARTTLS
TCPXFLG_SHUTRD = Half.TCPXFLG_SHUTRD
TCPXFLG_SHUTWR = Half.TCPXFLG_SHUTWR

SR_INT = SignalBit.SR_INT
SR_CHLD = SignalBit.SR_CHLD
SR_USR1 = SignalBit.SR_USR1
SR_USR2 = SignalBit.SR_USR2
SR_HUP = SignalBit.SR_HUP
SR_KILL = SignalBit.SR_KILL
SR_TSTP = SignalBit.SR_TSTP
SR_ALARM = SignalBit.SR_ALARM
SR_TERM = SignalBit.SR_TERM
SR_PIPE = SignalBit.SR_PIPE
SR_SYSCALL = SignalBit.SR_SYSCALL
