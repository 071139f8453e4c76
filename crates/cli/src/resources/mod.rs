//! Tasks and volumes of the server.

mod lookup;
mod resource;
mod task;
mod volume;

pub(crate) use lookup::{find, find_all, get, list, percent_encode, print_list};
pub(crate) use resource::Resource;
