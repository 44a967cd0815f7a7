"""Messages about many files are one line."""

from tuneline.data.reading.grouped_messages import first_names, group_messages


def test_each_of_a_few_files_has_its_line() -> None:
    messages = [("a.csv", "a.csv:3: has a stray quote"), ("b.csv", "b.csv:9: has a stray quote"), ("c.csv", "is empty")]
    assert group_messages(messages) == ["a.csv:3: has a stray quote", "b.csv:9: has a stray quote", "c.csv: is empty"]


def test_the_same_message_about_many_files_is_one_line_without_different_numbers() -> None:
    paths = [f"set/{n}.csv" for n in range(5)]
    messages = [
        (path, f"{path}:{n + 7}: is not UTF-8 in {n} of 10 rows; copy {path} again") for n, path in enumerate(paths)
    ]
    messages += [(path, "3 row(s) hold a placeholder") for path in paths]
    messages += [(path, f"{path}: is a PDF") for path in paths[:2]]
    files = "5 files (set/0.csv, set/1.csv, set/2.csv and 2 more)"
    assert group_messages(messages) == [
        f"{files}: is not UTF-8 in … of 10 rows; copy it again",
        f"{files}: 3 row(s) hold a placeholder",
        "set/0.csv: is a PDF",
        "set/1.csv: is a PDF",
    ]


def test_numbers_in_the_names_of_files_do_not_split_a_group() -> None:
    messages = [
        (name, f"{name}: none of its 2 rows can be used; correct {name}")
        for name in ("a.csv", "b1.csv", "c-2-3.csv", "d.csv")
    ]
    assert group_messages(messages) == [
        "4 files (a.csv, b1.csv, c-2-3.csv and 1 more): none of its 2 rows can be used; correct it"
    ]


def test_the_first_names_and_the_number_of_the_others() -> None:
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a", "b", "c", "d"]) == "a, b, c and 1 more"
