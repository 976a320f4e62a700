"""`python -m dlpack`: the same as the command `dlpack`."""

from dlpack.cli import main

if __name__ == "__main__":
    main()
