"""The text of Rust files, for the scripts that look at it."""
import re

STRING = re.compile(r'b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\n\']*|[^\'\\\n])\'', re.S)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|' + STRING.pattern, re.S)
TEST = re.compile(r'#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*')


def without_comments(text):
    """Returns the text without comments, and with strings that hold no bracket. Its code stays on its lines."""
    def replace(found):
        lines = found[0].count('\n')
        return '\n' * lines if found[0].startswith(('//', '/*')) else '"' + '_\n' * lines + '"'
    return COMMENT_OR_STRING.sub(replace, text)


def without_tests(text):
    """Returns a text without comments also without its unit tests, and the names of the modules that hold such."""
    modules = []
    while found := TEST.search(text):
        at = found.end()
        while text[at] not in '{;':
            at += 1
        module = re.match(r'(?:pub(?:\([^)]*\))? )?mod (\w+)\s*$', text[found.end():at])
        if text[at] == ';' and module:
            modules.append(module[1])
        depth = 0
        while True:
            depth += (text[at] == '{') - (text[at] == '}')
            at += 1
            if depth == 0:
                break
        text = text[:found.start()] + text[at:]
    return text, modules
