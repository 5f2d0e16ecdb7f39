"""Lists the shows: their names and the first line of what each says of itself."""
import ast
import os

here = os.path.dirname(os.path.abspath(__file__))
for file in sorted(os.listdir(here)):
    if file.endswith(".py") and file not in ("common.py", "list.py", "peer_export.py", "perfetto.py", "wide_export.py", "smollm2_export.py", "train_eager.py", "curve_svg.py"):
        with open(os.path.join(here, file)) as f:
            print(f"  {file[:-3]:10} {ast.get_docstring(ast.parse(f.read())).splitlines()[0]}")
