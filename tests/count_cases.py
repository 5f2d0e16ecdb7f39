"""count_cases.py REPORTS FAILED_LOG STATUS: prints "N passed, N failed[, N skipped]" over GoogleTest's XML reports.

A test that ctest saw fail and that left no failed case in a report (it crashed, timed out, or is no GoogleTest program) counts as
one failure each; without that the line could say 0 failed after a crash."""
import glob
import os
import sys
import xml.etree.ElementTree as ElementTree

reports, failed_log, status = sys.argv[1], sys.argv[2], int(sys.argv[3])
passed, failed, skipped = 0, 0, 0
programs_with_failures = set()
for path in sorted(glob.glob(os.path.join(reports, "*.xml"))):
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None:
            failed += 1
            programs_with_failures.add(os.path.splitext(os.path.basename(path))[0])
        elif case.get("result") == "skipped" or case.find("skipped") is not None:
            skipped += 1
        elif case.get("status") == "run":
            passed += 1
if status != 0 and os.path.exists(failed_log):
    with open(failed_log) as f:
        names = [line.strip().split(":", 1)[-1] for line in f if line.strip()]
    failed += sum(name not in programs_with_failures for name in names)
print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
