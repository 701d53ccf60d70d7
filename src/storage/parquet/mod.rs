//! Record batches to Parquet files and back, a row group at a time.
//!
//! `write`: rows gather until a row group is full, row groups are encoded on blocking threads while the next rows
//! arrive, and one task per upload appends them in order. `read`: the column chunks asked for are fetched in one
//! call and decoded on a blocking thread.

mod read;
mod write;

pub use read::{FetchedRowGroup, fetch_row_group, read_footer, row_groups_of};
pub use write::{ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX, RowsWriter, WrittenFile};
