#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Proves of every rule of tidy.py that it finds what it is for, and that a tidy tree passes."""
import pathlib
import tempfile
import unittest

import tidy

SPDX = "// SPDX-License-Identifier: GPL-2.0-only\n"
HASH = "# SPDX-License-Identifier: GPL-2.0-only\n"

# A small tree that keeps every rule.
GOOD = {
    "README.md": "no licence line here, and a line as long as it likes" + " to be" * 20 + "\n",
    "ring/ring.h": SPDX,
    "blktap-kmod/Kbuild": HASH + "blktap-y := disk/vbd.o main.o\n",
    "blktap-kmod/main.c": SPDX + '#include "disk/vbd.h"\n',
    "blktap-kmod/disk/vbd.c": SPDX + '#include "base/compat.h"\n#include "ring/ring.h"\n',
    "blktap-kmod/disk/vbd.h": SPDX + "#include <xen/xenbus.h>\n",
    "blktap-kmod/base/compat.h": SPDX +
                                 "#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)\n#endif\n",
    "tapdisk/CMakeLists.txt": HASH + "add_executable(tapdisk server/main.cpp base/log.cpp)\n",
    "tapdisk/base/log.hpp": SPDX,
    "tapdisk/base/log.cpp": SPDX + '#include "base/log.hpp"\n',
    "tapdisk/server/main.cpp": SPDX + '#include "base/log.hpp"\n#include "ring/ring.h"\n',
    "docs/man/a.8": '.\\" SPDX-License-Identifier: GPL-2.0-only\n.Dd June 1, 2024\n.Dt A 8\n.Os\n'
                    ".Sh NAME\n.Nm a\n.Nd does nothing\n.Sh DESCRIPTION\nIt does nothing.\n",
    "scripts/run": "#!/bin/sh\n" + HASH + "exit 0\n",
    "Makefile": HASH + "all:\n\tscripts/run\n",
    tidy.LIMITS: HASH,
    tidy.ARROWS: HASH + "disk/vbd.h xen/xenbus.h\n",
}
EXECUTABLE = {"scripts/run"}


class Rules(unittest.TestCase):
    def found(self, changes, executable=()):
        """The findings in the good tree with `changes` (name: text; None removes)."""
        with tempfile.TemporaryDirectory() as directory:
            for name, text in {**GOOD, **changes}.items():
                if text is None:
                    continue
                path = pathlib.Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(0o755 if name in EXECUTABLE | set(executable) else 0o644)
            return list(tidy.findings(tidy.Tree(directory)))

    def finds(self, rule, changes, where, what, executable=()):
        """Exactly one finding, of this rule, here, saying this."""
        found = self.found(changes, executable)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{where}: {rule}: "), found[0])
        self.assertIn(what, found[0])

    def test_a_tidy_tree_passes(self):
        self.assertEqual(self.found({}), [])

    def test_every_rule_is_tested(self):
        for rule in tidy.RULES:
            self.assertTrue(any(name.startswith(f"test_{rule.__name__}") for name in dir(self)),
                            rule.__name__)

    def test_licence(self):
        self.finds("licence", {"tapdisk/base/log.hpp": "#pragma once\n"}, "tapdisk/base/log.hpp:1",
                   "no SPDX")
        self.finds("licence", {"scripts/run": "#!/bin/sh\nexit\n" + HASH}, "scripts/run:2",
                   "no SPDX")

    def test_include_direction_between_parts(self):
        for name, target, said in [
                ("ring/ring.h", "tapdisk/base/log.hpp", "ring/ includes tapdisk/"),
                ("blktap-kmod/main.c", "tapdisk/base/log.hpp", "blktap-kmod/ includes tapdisk/"),
                ("tapdisk/base/log.cpp", "blktap-kmod/disk/vbd.h",
                 "tapdisk/ includes blktap-kmod/")]:
            self.finds("include_direction", {name: GOOD[name] + f'#include "{target}"\n'},
                       f"{name}:{GOOD[name].count(chr(10)) + 1}", said)

    def test_include_direction_through_dots(self):
        name = "ring/ring.h"
        self.finds("include_direction", {name: SPDX + '#include "../tapdisk/base/log.hpp"\n'},
                   f"{name}:2", "ring/ includes tapdisk/")

    def test_include_direction_between_layers(self):
        changes = {"tapdisk/vbd/queue.hpp": SPDX,
                   "tapdisk/base/log.cpp": SPDX + '#include "vbd/queue.hpp"\n'}
        self.finds("include_direction", changes, "tapdisk/base/log.cpp:2",
                   "tapdisk/base includes tapdisk/vbd above it")

    def test_include_direction_of_unknown_layers(self):
        changes = {"tapdisk/util/any.hpp": SPDX,
                   "tapdisk/base/log.cpp": SPDX + '#include "util/any.hpp"\n'}
        self.finds("include_direction", changes, "tapdisk/base/log.cpp:2", "no layer")

    def test_include_direction_of_missing_files(self):
        self.finds("include_direction", {"tapdisk/base/log.cpp": SPDX + '#include "gone.hpp"\n'},
                   "tapdisk/base/log.cpp:2", "not in the tree")

    def test_module_arrows(self):
        name = "blktap-kmod/base/compat.h"
        for header in ("disk/vbd.h", "xen/page.h", "asm/xen/hypercall.h"):
            quoted = f'"{header}"' if header.startswith("disk") else f"<{header}>"
            upward = {name: GOOD[name] + f"#include {quoted}\n"}
            self.finds("module_arrows", upward, f"{name}:4", f"includes {header}")
            listed = GOOD[tidy.ARROWS] + f"base/compat.h {header}\n"
            self.assertEqual(self.found({**upward, tidy.ARROWS: listed}), [])

    def test_module_arrows_from_guest(self):
        changes = {"blktap-kmod/Kbuild": HASH + "blktap-y := disk/vbd.o guest/map.o main.o\n",
                   "blktap-kmod/guest/map.c": SPDX + '#include <xen/page.h>\n' +
                                              '#include "disk/vbd.h"\n'}
        self.assertEqual(self.found(changes), [])

    def test_module_arrows_are_a_ratchet(self):
        listed = GOOD[tidy.ARROWS] + "base/compat.h disk/vbd.h\n"
        self.finds("module_arrows", {tidy.ARROWS: listed}, f"{tidy.ARROWS}:3", "is gone")

    def test_module_arrows_of_unknown_folders(self):
        changes = {"blktap-kmod/Kbuild": HASH + "blktap-y := disk/vbd.o util/any.o main.o\n",
                   "blktap-kmod/util/any.c": SPDX}
        self.finds("module_arrows", changes, "blktap-kmod/util/any.c:1", "not have")

    def test_line_length(self):
        self.finds("line_length", {"ring/ring.h": SPDX + "/*" + "x" * 97 + "*/\n"},
                   "ring/ring.h:2", "101 columns")
        self.finds("line_length", {"ring/ring.h": SPDX + "\t" * 12 + "xxxxx\n"},
                   "ring/ring.h:2", "101 columns")

    def test_line_length_of_messages(self):
        name = "blktap-kmod/disk/vbd.c"
        text = GOOD[name] + '\tpr_info("' + "x" * 100
        self.assertEqual(self.found({name: text + '",\n\t\t1);\n'}), [])
        self.finds("line_length", {name: text + '", and more;\n'}, f"{name}:4", "columns")

    def test_trailing_space(self):
        self.finds("trailing_space", {"ring/ring.h": SPDX + "int x; \n"}, "ring/ring.h:2", "space")
        self.finds("trailing_space", {"ring/ring.h": SPDX + "int x;"}, "ring/ring.h:2", "newline")
        self.finds("trailing_space", {"ring/ring.h": SPDX + "\n"}, "ring/ring.h:3", "empty")

    def test_banned_words(self):
        for word in ("FIX" "ME", "TO" "DO", "X" "XX", "/ho" "me/me", "<<<<" "<<<"):
            self.finds("banned_words", {"ring/ring.h": f"{SPDX}// {word} later\n"}, "ring/ring.h:2",
                       "must not")

    def test_kernel_version(self):
        name = "blktap-kmod/disk/vbd.c"
        text = GOOD[name] + "#if LINUX_VERSION_CODE > 1\n#endif\n"
        self.finds("kernel_version", {name: text}, f"{name}:4", "compat.h")

    def test_dead_file(self):
        for name, said in [("tapdisk/base/old.hpp", "no file includes"),
                           ("tapdisk/base/old.cpp", "no build list names old.cpp"),
                           ("tapdisk/server/og.cpp", "no build list names og.cpp"),
                           ("blktap-kmod/disk/old.c", "no build list names disk/old.o")]:
            self.finds("dead_file", {name: SPDX}, f"{name}:1", said)
        self.finds("dead_file", {"scripts/forgotten": "#!/bin/sh\n" + HASH},
                   "scripts/forgotten:1", "nothing names", executable=["scripts/forgotten"])

    def test_executable_bit(self):
        self.finds("executable_bit", {}, "ring/ring.h:1", "no program", executable=["ring/ring.h"])

    def test_man_page(self):
        page = GOOD["docs/man/a.8"].replace(".Nd does nothing\n", "")
        self.finds("man_page", {"docs/man/a.8": page}, "docs/man/a.8:5", "NAME section")

    def function(self, lines, indent=""):
        return "\n".join([f"{indent}static int f(int a)", indent + "{", *["\ta++;"] * (lines - 3),
                          indent + "}"]) + "\n"

    def test_length_of_files(self):
        text = SPDX + "int x;\n" * tidy.FILE_LINES
        self.finds("length", {"ring/ring.h": text}, "ring/ring.h:1", f"{tidy.FILE_LINES + 1} lines")

    def test_length_of_functions(self):
        limit = tidy.FUNCTION_LINES
        self.assertEqual(self.found({"ring/ring.h": SPDX + self.function(limit)}), [])
        self.finds("length", {"ring/ring.h": SPDX + self.function(limit + 1)}, "ring/ring.h:2",
                   f"a function of {limit + 1} lines")
        wrapped = SPDX + "namespace a {\nclass B {\n" + self.function(limit + 1) + "};\n}\n"
        self.finds("length", {"ring/ring.h": wrapped}, "ring/ring.h:4", "a function of")
        shell = "#!/bin/sh\n" + HASH + "f() {\n" + "\t:\n" * limit + "}\n"
        self.finds("length", {"scripts/run": shell}, "scripts/run:3", f"of {limit + 2} lines")
        python = "#!/usr/bin/env python3\n" + HASH + "def f():\n" + "    f()\n" * limit
        self.finds("length", {"scripts/run": python}, "scripts/run:3", f"of {limit + 1} lines")

    def test_length_ignores_braces_in_text(self):
        text = SPDX + "int f()\n{\n\tputs(\"{\");\t/* { */ // {\n\treturn '{';\n}\n"
        more = text + "int x;\n" * (tidy.FUNCTION_LINES + 5)
        self.assertEqual(self.found({"ring/ring.h": more}), [])

    def test_length_is_a_ratchet(self):
        text = SPDX + self.function(80)
        entry = HASH + "ring/ring.h 81 80\n"
        self.assertEqual(self.found({"ring/ring.h": text, tidy.LIMITS: entry}), [])
        self.finds("length", {"ring/ring.h": SPDX + self.function(81), tidy.LIMITS: entry},
                   "ring/ring.h:2", "limit is 80")
        self.finds("length", {"ring/ring.h": SPDX + self.function(79), tidy.LIMITS: entry},
                   "ring/ring.h:1", "lower its entry")
        self.finds("length", {tidy.LIMITS: HASH + "gone.c 500 80\n"}, f"{tidy.LIMITS}:1",
                   "gone.c does not exist")


if __name__ == "__main__":
    unittest.main()
