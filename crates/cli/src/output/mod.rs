//! Printing: standard output for data, standard error for everything else, and color.

mod capacity;
mod describe;
mod duration;
mod escaping_writer;
mod items;
mod print;
mod progress;
mod report;
mod table;
mod terminal;

pub(crate) use self::print::{plural, print, print_message, print_warning, raw_stderr, raw_stdout};
pub(crate) use capacity::{format_memory, largest_capacity};
pub(crate) use describe::{describe_group, describe_record, describe_task, describe_volume, node_duration};
pub(crate) use duration::{age, human_duration};
pub(crate) use escape::{escape_8_bit_controls, escape_controls, escape_json, escape_json_strings, escape_line};
pub(crate) use escaping_writer::EscapingWriter;
pub(crate) use items::{Item, ItemColumn, ListView, WithRaw, json, print_item, print_items, print_items_below, yaml};
pub(crate) use progress::Progress;
pub(crate) use report::print_report;
pub(crate) use table::{Cell, Table, fixed, flexible, or_dash, status_cell};
pub(crate) use terminal::{REFRESH_INTERVAL, Terminal};
