"""./run sanitize: the tests of what is in C, with the modules compiled with sanitizers. Arguments go to pytest."""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import building

_FILES = ("zygote", "vfork", "calls", "worker", "channel")
# Its signals come faster than a process under the sanitizers goes on.
_LEFT_OUT = "not handler_raises"


def main() -> int:
    """Run them; 0 if all pass and no sanitizer has found anything, in any process."""
    files = [f"tests/test_{name}.py" for name in _FILES]
    with tempfile.TemporaryDirectory(prefix="tcppar-sanitize-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # some spawners run as another user
        building.require_sanitizers(folder)
        words = ["--hypothesis-profile=ci", "-k", _LEFT_OUT]  # a profile without deadlines
        command = [sys.executable, "-m", "pytest", *words, *files, *sys.argv[1:]]
        code = subprocess.run(command, env=building.package(folder)).returncode
        findings = building.findings_of(folder)
        for finding in findings:
            print(finding.read_text())
    return code or len(findings)


if __name__ == "__main__":
    sys.exit(main())
