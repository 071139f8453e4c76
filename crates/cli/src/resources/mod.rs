//! Tasks and volumes of the server.

mod lookup;
mod resource;
mod task;
mod volume;

pub(crate) use lookup::{Ambiguity, find, find_all, find_last, get, list, percent_encode, print_list};
pub(crate) use resource::Resource;
