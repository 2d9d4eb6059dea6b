#!/usr/bin/python3
"""The packaged getmail, with one of its faults mended: it installs the handler of SIGCHLD after it has forked and waits on a
condition that nobody tells again, so that a child that delivers quickly leaves it waiting for ever. Here it waits for the
child itself. All that concerns the server is getmail's own."""

import os
import runpy
import sys

from getmailcore import baseclasses


class ForkingBase(baseclasses.ForkingBase):
    def _prepare_child(self):
        pass

    def _wait_for_child(self, childpid):
        return os.waitstatus_to_exitcode(os.waitpid(childpid, 0)[1])


baseclasses.ForkingBase = ForkingBase
sys.argv[0] = "/usr/bin/getmail"
runpy.run_path(sys.argv[0], run_name="__main__")
