"""`python -m tunewise` is the same as `tunewise`."""

from tunewise.cli import main

if __name__ == "__main__":
    main()
