//! Tasks and volumes of the server.

mod lookup;
mod resource;
mod task;
mod volume;

pub use lookup::{find, find_all, get, list, percent_encode, print_list};
pub use resource::Resource;
