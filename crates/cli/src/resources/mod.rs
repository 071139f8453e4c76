//! Tasks and volumes of the server.

mod group;
mod lookup;
mod resource;
mod task;
mod volume;

pub(crate) use group::{Target, find_target, find_targets, find_tasks, get_whole_group};
pub(crate) use lookup::{Ambiguity, find_all, find_last, get, list, percent_encode, print_list};
pub(crate) use resource::Resource;
