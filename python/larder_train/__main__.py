"""`python -m larder_train COMMAND ...`; see docs/training.md."""

import sys

from larder_train.cli import main

if __name__ == "__main__":
    sys.exit(main())
