"""Labels and values of slices that look like code."""

NAMES = [
    "{}",
    "{0} {metric} {slice}",
    "%s %(count)s %d 100%",
    "<b>bold</b>",
    "\x1b[31mred\x1b[0m",
    "`code` ``two``",
    "a|b|c",
    "long " * 400,
    "x" * 3_000,
    "two\nlines\r\nthree",
    "“quoted” = language=zh",
    "\u202eright to left",
    "{{ 7 * 7 }} {% raw %}",
    "",
    "${HOME} $(id)",
]
