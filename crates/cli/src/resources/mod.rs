//! Tasks and volumes of the server.

mod group;
mod lookup;
mod record;
mod resource;
mod task;
mod task_watch;
mod volume;

pub(crate) use group::{
    ReadTarget, Target, find_read_target, find_read_targets, find_targets, find_tasks, get_whole_group,
};
pub(crate) use lookup::{Ambiguity, find_all, find_last, get, list, percent_encode, print_list};
pub(crate) use record::find_record;
pub(crate) use resource::Resource;
pub(crate) use task_watch::TaskWatch;
