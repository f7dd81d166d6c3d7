#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""House rules that a program can check: tidy.py [--update-limits] [DIRECTORY].

Prints one line per finding, FILE:LINE: RULE: what, and fails when there is any. Each rule is a
generator below, listed in RULES; tidy_test.py proves of each that it can fail.

Lengths are a ratchet: a file or function beyond the default limit stands in the file `limits` with
its present length, may not grow, and the entry must shrink with it. So are the includes of the
module that run against the order of its folders, in the file `arrows`.
"""
import ast
import pathlib
import re
import subprocess
import sys

LINE_COLUMNS = 100
FILE_LINES = 400
FUNCTION_LINES = 70
LIMITS = "tests/tidy/limits"
ARROWS = "tests/tidy/arrows"

# Which part may include which. tests/ sees everything.
MAY_INCLUDE = {
    "ring": {"ring"},
    "blktap-kmod": {"ring", "blktap-kmod"},
    "tapdisk": {"ring", "tapdisk"},
    "xl-config": {"xl-config"},
}
INCLUDE_PATHS = [pathlib.PurePath(path)
                 for path in (".", "tapdisk", "blktap-kmod", "xl-config/preload")]
LAYERS = ["base", "io", "image", "vbd", "server", "tapctl", "hotplug"]
# The module's, with what lies in none on top. The last of them is all that knows Xen.
FOLDERS = ["base", "data", "queue", "disk", "guest"]

# What belongs to a work in progress or to somebody's machine. Split, so as not to find themselves.
BANNED = [r"\bFIX" r"ME\b", r"\bTO" r"DO\b", r"\bX" r"XX\b", r"\bHA" r"CK\b", r"/ho" r"me/\w",
          r"<<<<" r"<<<", r">>>>" r">>>"]
COMPAT = "blktap-kmod/base/compat.h"
LICENCE = "SPDX-License-Identifier: GPL-2.0-only"
# Programs that are found by listing their directory.
LISTED = re.compile(r"^tests/system/cases/")
# Files whose format has no place for a licence line.
NO_LICENCE = re.compile(r"\.(md|json|svg)$|(^|/)(LICENSE|COPYING)$|\.wants/|^debian/changelog$")
C_LIKE = {".c", ".h", ".cpp", ".hpp"}


class Tree:
    """The files of the repository, or of a made-up one."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.names = sorted(self._list())
        self._texts = {}

    def _list(self):
        if (self.root / ".git").exists():
            listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"],
                                    cwd=self.root, check=True, capture_output=True, text=True)
            names = listed.stdout.split("\0")
        else:
            names = [str(path.relative_to(self.root)) for path in self.root.rglob("*")
                     if "build" not in path.relative_to(self.root).parts]
        for name in names:
            path = self.root / name
            if name and path.is_file() and not path.is_symlink():
                yield name

    def text(self, name):
        if name not in self._texts:
            self._texts[name] = (self.root / name).read_text("utf-8", errors="replace")
        return self._texts[name]

    def lines(self, name):
        return self.text(name).split("\n")

    def suffix(self, name):
        return pathlib.PurePath(name).suffix

    def c_like(self):
        return [name for name in self.names if self.suffix(name) in C_LIKE]

    def executable(self, name):
        return bool((self.root / name).stat().st_mode & 0o111)


# --- rules ----------------------------------------------------------------------------------------

def licence(tree):
    """The first line says the licence; the second, after #!."""
    for name in tree.names:
        lines = tree.lines(name)
        place = 1 if lines[0].startswith("#!") and len(lines) > 1 else 0
        if not NO_LICENCE.search(name) and LICENCE not in lines[place]:
            yield name, place + 1, f"no {LICENCE}"


def included(tree):
    """Every #include "...": file, line, and the file it leads to (None: nowhere in the tree)."""
    known = set(tree.names)
    for name in tree.c_like():
        for number, line in enumerate(tree.lines(name), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            here = pathlib.PurePath(name).parent
            targets = [normal(base / match[1]) for base in (here, *INCLUDE_PATHS)]
            yield name, number, next((target for target in targets if target in known), None)


def normal(path):
    parts = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def include_direction(tree):
    """The parts include only downward, and so do tapdisk's layers."""
    for name, number, target in included(tree):
        if target is None:
            yield name, number, "includes a file that is not in the tree"
            continue
        part, other = name.split("/")[0], target.split("/")[0]
        if other not in MAY_INCLUDE.get(part, {other}):
            yield name, number, f"{part}/ includes {other}/"
        if part == other == "tapdisk":
            layer, below = name.split("/")[1], target.split("/")[1]
            if layer not in LAYERS or below not in LAYERS:
                yield name, number, f"{layer} or {below} is no layer of tapdisk"
            elif LAYERS.index(below) > LAYERS.index(layer):
                yield name, number, f"tapdisk/{layer} includes tapdisk/{below} above it"


def level(name):
    folder = name.split("/")[1]
    return FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS)


def arrows(tree):
    """The module's includes that run up, or to Xen but from guest/: file, line, header."""
    for name, number, target in included(tree):
        if name.startswith("blktap-kmod/") and (target or "").startswith("blktap-kmod/") and \
                level(name) < level(target):
            yield name, number, target.removeprefix("blktap-kmod/")
    for name in tree.c_like():
        for number, line in enumerate(tree.lines(name), 1):
            match = re.match(r"\s*#\s*include\s+<((asm/)?xen/[^>]+)>", line)
            if match and re.match("blktap-kmod/(?!guest/)", name):
                yield name, number, match[1]


def module_arrows(tree):
    """The module's folders include only downward, but for what is listed and still there."""
    listed = {line: number for number, line in enumerate(tree.lines(ARROWS), 1)
              if line and not line.startswith("#")}
    found = set()
    for name, number, header in arrows(tree):
        arrow = f"{name.removeprefix('blktap-kmod/')} {header}"
        found.add(arrow)
        if arrow not in listed:
            yield name, number, f"includes {header}, which is above it or not for its folder"
    for line in sorted(listed.keys() - found):
        yield ARROWS, listed[line], f"is gone, and so goes this line: {line}"
    for name in tree.c_like():
        if re.match("blktap-kmod/.*/", name) and level(name) == len(FOLDERS):
            yield name, 1, "lies in a folder of the module that tidy.py does not have"


def line_length(tree):
    """Messages of the kernel are not broken, so that they can be searched for."""
    for name in tree.names:
        if name.endswith(".md") or NO_LICENCE.search(name):
            continue
        for number, line in enumerate(tree.lines(name), 1):
            columns = len(line.expandtabs(8))
            message = name.startswith("blktap-kmod/") and \
                re.match(r'[^"]{,80}"[^"]*"[^"]{,4}$', line)
            if columns > LINE_COLUMNS and not message:
                yield name, number, f"{columns} columns"


def trailing_space(tree):
    for name in tree.names:
        for number, line in enumerate(tree.lines(name), 1):
            if line != line.rstrip():
                yield name, number, "space at the end of the line"
        if tree.text(name) and not tree.text(name).endswith("\n"):
            yield name, len(tree.lines(name)), "no newline at the end"
        if tree.text(name).endswith("\n\n"):
            yield name, len(tree.lines(name)), "empty line at the end"


def banned_words(tree):
    for name in tree.names:
        if NO_LICENCE.search(name) and not name.endswith(".md"):
            continue
        for number, line in enumerate(tree.lines(name), 1):
            for word in BANNED:
                match = re.search(word, line)
                if match:
                    yield name, number, f"{match[0]!r} must not be in the tree"


def kernel_version(tree):
    """What depends on the kernel's version lives in one place."""
    for name in tree.c_like():
        if not name.startswith("blktap-kmod/") or name == COMPAT:
            continue
        for number, line in enumerate(tree.lines(name), 1):
            if re.search(r"\b(LINUX_VERSION_CODE|KERNEL_VERSION|RHEL_RELEASE)", line):
                yield name, number, "a test of the kernel's version outside compat.h"


def dead_file(tree):
    """Every source is built, every header included, every program named somewhere."""
    lists = {name: tree.text(name) for name in tree.names
             if pathlib.PurePath(name).name in ("CMakeLists.txt", "Kbuild", "Makefile") or
             tree.executable(name)}
    targets = {target for _, _, target in included(tree)}
    for name in tree.names:
        path = pathlib.PurePath(name)
        if name in targets:
            continue
        if path.suffix in (".h", ".hpp"):
            yield name, 1, "no file includes this header"
        elif path.suffix in (".c", ".cpp"):
            built = path.name
            if name.startswith("blktap-kmod/"):
                built = name.removeprefix("blktap-kmod/").removesuffix(".c") + ".o"
            if not any(re.search(rf"(?<![\w-]){re.escape(built)}(?![\w.])", text)
                       for text in lists.values()):
                yield name, 1, f"no build list names {built}"
        elif tree.executable(name) and not LISTED.match(name) and not any(
                path.name in tree.text(other) for other in tree.names if other != name):
            yield name, 1, "nothing names this program"


def executable_bit(tree):
    """The other way round is no fault: what is installed gets its mode there."""
    for name in tree.names:
        if tree.executable(name) and not tree.text(name).startswith("#!"):
            yield name, 1, "executable, but no program"


def man_page(tree):
    for name in tree.names:
        if not re.search(r"\.[1-8]$", name):
            continue
        found = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", tree.root / name],
                               capture_output=True, text=True)
        for line in found.stdout.splitlines():
            match = re.match(r"mandoc: .*?:(\d+):\d+: (.*)", line)
            yield name, int(match[1]) if match else 1, match[2] if match else line


# --- lengths --------------------------------------------------------------------------------------

def blank_out(text):
    """C or C++ text with comments, strings and preprocessor lines replaced by spaces."""
    def spaces(match):
        return re.sub(r"[^\n]", " ", match[0])
    # Separators inside numbers look like the start of a character.
    text = re.sub(r"(?<=\d)'(?=\d)", " ", text)
    raw = r'R"([^()\s\\]*)\(.*?\)\1"'
    text = re.sub(raw + r"""|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
                  spaces, text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:\\\n|[^\n])*", spaces, text, flags=re.M)


def c_functions(text):
    """Start line and length in lines of each function of a C or C++ text."""
    text = blank_out(text)
    depth_of_function = None
    depth = 0
    begun = 0
    head = 0 # where the text since the last ; { or } begins
    for match in re.finditer(r"[{};]", text):
        at, what = match.start(), match[0]
        if what == "{":
            before = text[head:at].strip()
            container = re.match(r"(template\b.*)?(inline\s+)?"
                                 r"(struct|class|union|enum|namespace|extern)\b[^()]*$", before,
                                 re.S)
            initialiser = before.endswith(("=", ",", "(", "return", "{"))
            if depth_of_function is None and ")" in before and not container and not initialiser:
                depth_of_function = depth
                start = head + len(text[head:at]) - len(text[head:at].lstrip())
                begun = text.count("\n", 0, start) + 1
            depth += 1
        elif what == "}":
            depth -= 1
            if depth_of_function is not None and depth <= depth_of_function:
                depth_of_function = None
                yield begun, text.count("\n", 0, at) + 2 - begun
        head = at + 1


def shell_functions(text):
    begun = None
    for number, line in enumerate(text.split("\n"), 1):
        if begun is None and re.match(r"[\w-]+\(\) *[{(]($| *#)", line):
            begun = number
        elif begun is not None and re.match(r"[})]", line):
            yield begun, number - begun + 1
            begun = None


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1


def functions(tree, name):
    text = tree.text(name)
    first = text.split("\n", 1)[0]
    if tree.suffix(name) in C_LIKE:
        return c_functions(text)
    if tree.suffix(name) == ".py" or "python" in first and first.startswith("#!"):
        return python_functions(text)
    if tree.suffix(name) == ".sh" or re.match(r"#!.*\b(ba)?sh\b", first):
        return shell_functions(text)
    return []


def limits_of(tree):
    """File name -> (lines, longest function), from the ratchet."""
    limits = {}
    if LIMITS in tree.names:
        for line in tree.lines(LIMITS):
            if line and not line.startswith("#"):
                name, lines, longest = line.rsplit(None, 2)
                limits[name] = int(lines), int(longest)
    return limits


def measured(tree):
    for name in tree.names:
        if name.endswith((".md", ".1", ".5", ".8")) or NO_LICENCE.search(name):
            continue
        longest = max(functions(tree, name), key=lambda found: found[1], default=(1, 0))
        yield name, tree.text(name).count("\n"), longest


def length(tree):
    limits = limits_of(tree)
    for name, lines, (at, longest) in measured(tree):
        file_limit, function_limit = limits.pop(name, (0, 0))
        if lines > max(FILE_LINES, file_limit):
            yield name, 1, f"{lines} lines; the limit is {max(FILE_LINES, file_limit)}"
        if longest > max(FUNCTION_LINES, function_limit):
            limit = max(FUNCTION_LINES, function_limit)
            yield name, at, f"a function of {longest} lines; the limit is {limit}"
        if file_limit > max(lines, FILE_LINES) or function_limit > max(longest, FUNCTION_LINES):
            yield name, 1, f"has become shorter: lower its entry in {LIMITS}"
        elif 0 < file_limit <= FILE_LINES and 0 < function_limit <= FUNCTION_LINES:
            yield name, 1, f"needs no entry in {LIMITS} any more"
    for name in limits:
        yield LIMITS, 1, f"{name} does not exist"


def update_limits(tree):
    head = [line for line in tree.lines(LIMITS) if line.startswith("#")]
    entries = [f"{name} {lines} {longest}" for name, lines, (_, longest) in measured(tree)
               if lines > FILE_LINES or longest > FUNCTION_LINES]
    (tree.root / LIMITS).write_text("\n".join(head + entries) + "\n")


RULES = [licence, include_direction, module_arrows, line_length, trailing_space, banned_words,
         kernel_version, dead_file, executable_bit, man_page, length]


def findings(tree, rules=RULES):
    for rule in rules:
        for name, line, what in rule(tree):
            yield f"{name}:{line}: {rule.__name__}: {what}"


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    tree = Tree(arguments[0] if arguments else pathlib.Path(__file__).resolve().parents[2])
    if "--update-limits" in sys.argv:
        update_limits(tree)
        return
    found = list(findings(tree))
    print(*found, sep="\n", end="\n" if found else "")
    print(f"tidy: {len(RULES)} rules, {len(tree.names)} files, {len(found)} findings")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
