"""The program that ./inv starts. It is run as a file, so that it works in every folder."""

import os
import signal
import sys

# Until a task runs there is nothing to clean up: Ctrl-C may end the process at once, without a traceback. (A script's
# background job starts with Ctrl-C ignored, and that stays so.)
if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.path.insert(
    0,
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),  # noqa: PTH100, PTH120 - pathlib costs 10 ms
)

from swarm.front.process import begin

begin()

if sys.argv[1:2] in (["install"], ["customize"], ["backup"]):
    from swarm.ssh import early

    early.connect(sys.argv[2:])

from swarm.front.program import main  # noqa: E402 - begin() makes this import faster

main()
