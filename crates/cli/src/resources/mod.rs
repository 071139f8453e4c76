//! Tasks and volumes of the server.

mod lookup;
mod resource;
mod task;
mod volume;

pub use lookup::{find, find_all, get, list, percent_encode, print_none_found};
pub use resource::Resource;
