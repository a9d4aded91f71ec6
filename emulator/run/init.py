"""The program of a lab's first process. Standard library only:

    [WIRELAB_SHARED=JSON] python -I -S init.py RUN_DIRECTORY LAB LIFELINE_FD READY_FD [ENGINE_SOCKET]

`emulator.run.keeper` is what it does. Python compiles a program anew each time it runs, so this one is short.
"""

import gc
import os
import sys

if __name__ == "__main__":
    gc.disable()  # what is made until the lab is ready stays
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from emulator.run.keeper import main

    sys.exit(main(sys.argv[1:]))
