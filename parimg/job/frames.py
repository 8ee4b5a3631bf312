"""Arrow tables of a job as pandas data frames, which say so if they are those of an unfinished job.

Called by `Job` when a frame is asked for; importing it imports pandas.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

# Without these, pandas makes floats and objects of integers and bools with nulls.
_NULLABLE = {
    pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype(), pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(), pa.uint8(): pd.UInt8Dtype(), pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.bool_(): pd.BooleanDtype(),
}  # fmt: skip


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A table as a data frame, in which integers and bools stay such where some are missing."""
    frame: pd.DataFrame = table.to_pandas()
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and column.type in _NULLABLE:
            frame[name] = column.to_pandas(types_mapper=_NULLABLE.get)
    return frame


class PartialFrame(pd.DataFrame):
    """The data frame of a job that has not recorded all images; what is made of it is a plain data frame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n\n[partial: {self.attrs['partial']}]"

    def _repr_html_(self) -> str | None:
        table = pd.DataFrame._repr_html_(self)  # type: ignore[attr-defined] # the stubs do not know it
        return None if table is None else f"{table}<p>partial: {self.attrs['partial']}</p>"


def partial(frame: pd.DataFrame, told: str) -> PartialFrame:
    """A frame that says what is missing, in ``attrs["partial"]`` and in its text."""
    made = PartialFrame(frame)
    made.attrs["partial"] = told
    return made
