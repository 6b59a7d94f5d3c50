"""Reads rows of .xlsx and .xls files as plain text and numbers, and finds columns by their headings."""

from pathlib import Path

from engine.datasets.video import DatasetError

Cell = str | int | float | None
Row = tuple[Cell, ...]


def read_sheet(path: Path, sheet: str | None = None) -> list[Row]:
    """All rows of a sheet (None: the first). Text is stripped, whole numbers are int, empty cells None.

    Raises DatasetError if the file or sheet is missing or broken.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing; it comes with the data set's annotations, put it there")
    try:
        names, rows = _read_xls(path, sheet) if path.suffix.lower() == ".xls" else _read_xlsx(path, sheet)
    except DatasetError:
        raise
    except Exception as error:  # each library raises many kinds of errors for a broken file
        raise DatasetError(f"{path} can't be read as a table ({error}); copy it again from the data set") from None
    if rows is None:
        raise DatasetError(f"{path} has no sheet '{sheet}' but {', '.join(names)}; is it another version?")
    return [tuple(_clean(cell) for cell in row) for row in rows]


def records(
    rows: list[Row], headings: tuple[str, ...], path: Path, optional: tuple[str, ...] = ()
) -> list[tuple[int, dict[str, Cell]]]:
    """(line number from 1, {heading: cell}) of every row below the row of headings, which the function finds.

    Headings are compared without case and spaces, and a matching beginning is enough ("Onset Frame"). Rows with an
    empty cell under the first heading are left out. Missing `optional` columns are left out too. Raises DatasetError if
    no row holds all headings.
    """
    for start, row in enumerate(rows):
        columns = {h: i for h in headings if (i := _column(row, h)) is not None}
        if len(columns) == len(headings):
            columns |= {h: i for h in optional if (i := _column(row, h)) is not None}
            below = list(enumerate(rows[start + 1 :], start + 2))
            return [
                (line, {h: row[i] if i < len(row) else None for h, i in columns.items()})
                for line, row in below
                if len(row) > columns[headings[0]] and row[columns[headings[0]]] is not None
            ]
    raise DatasetError(f"{path} has no row with the headings {', '.join(headings)}; is it another version?")


def _column(row: Row, heading: str) -> int | None:
    cells = [_bare(cell) if isinstance(cell, str) else "" for cell in row]
    exact = [i for i, cell in enumerate(cells) if cell == _bare(heading)]
    return next(iter(exact or [i for i, cell in enumerate(cells) if cell.startswith(_bare(heading))]), None)


def whole(cell: Cell) -> int | None:
    """The whole number in a cell, or None without one."""
    try:
        return int(float(cell)) if cell is not None else None
    except (ValueError, OverflowError):
        return None


def text(cell: Cell) -> str:
    """A cell as text; empty for None."""
    return "" if cell is None else str(cell)


def _read_xlsx(path: Path, sheet: str | None) -> tuple[list[str], list[Row] | None]:
    import openpyxl  # part of the extra `train`, needed only with a data set

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        name = book.sheetnames[0] if sheet is None else sheet
        return book.sheetnames, list(book[name].values) if name in book.sheetnames else None
    finally:
        book.close()


def _read_xls(path: Path, sheet: str | None) -> tuple[list[str], list[Row] | None]:
    import xlrd

    book = xlrd.open_workbook(str(path))
    names = book.sheet_names()
    name = names[0] if sheet is None else sheet
    if name not in names:
        return names, None
    table = book.sheet_by_name(name)
    return names, [tuple(table.row_values(i)) for i in range(table.nrows)]


def _clean(cell: object) -> Cell:
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return cell if isinstance(cell, int | float) or cell is None else str(cell)


def _bare(cell: object) -> str:
    return "".join(str(cell).lower().split())
