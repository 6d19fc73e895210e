"""python -m matryobench <verb>"""

from matryobench.cli import main

main()
