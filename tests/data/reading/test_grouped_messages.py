"""What is said of many files, in one line."""

from tuneline.data.reading.grouped_messages import first_names, group_messages


def test_of_a_few_files_each_has_its_line() -> None:
    said = [("a.csv", "a.csv:3: has a stray quote"), ("b.csv", "b.csv:9: has a stray quote"), ("c.csv", "is empty")]
    assert group_messages(said) == ["a.csv:3: has a stray quote", "b.csv:9: has a stray quote", "c.csv: is empty"]


def test_what_is_said_of_many_files_is_one_line_without_the_numbers_that_differ() -> None:
    places = [f"set/{n}.csv" for n in range(5)]
    said = [
        (place, f"{place}:{n + 7}: is no UTF-8 in {n} of 10 rows; copy {place} again") for n, place in enumerate(places)
    ]
    said += [(place, "3 row(s) hold a placeholder") for place in places]
    said += [(place, f"{place}: is a PDF") for place in places[:2]]
    files = "5 files (set/0.csv, set/1.csv, set/2.csv and 2 more)"
    assert group_messages(said) == [
        f"{files}: is no UTF-8 in … of 10 rows; copy it again",
        f"{files}: 3 row(s) hold a placeholder",
        "set/0.csv: is a PDF",
        "set/1.csv: is a PDF",
    ]


def test_names_of_files_with_other_numbers_in_them_are_no_matter() -> None:
    said = [
        (name, f"{name}: none of its 2 rows can be used; mend {name}")
        for name in ("a.csv", "b1.csv", "c-2-3.csv", "d.csv")
    ]
    assert group_messages(said) == [
        "4 files (a.csv, b1.csv, c-2-3.csv and 1 more): none of its 2 rows can be used; mend it"
    ]


def test_a_few_names_stand_for_all() -> None:
    assert first_names(["a", "b", "c"]) == "a, b, c"
    assert first_names(["a", "b", "c", "d"]) == "a, b, c and 1 more"
