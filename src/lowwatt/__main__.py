"""`python -m lowwatt`: the command line, for launchers that start modules (`torchrun -m lowwatt train …`)."""

from lowwatt.cli import main

main()
