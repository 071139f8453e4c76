//! `k8s-cli auth`: saves, prints, and deletes the name of the user.

use crate::args::{AuthCommand, GlobalArgs};
use crate::error::Result;
use crate::output::{print, print_message};
use crate::user::{self, User};

pub(crate) fn run(global: &GlobalArgs, command: AuthCommand) -> Result<()> {
    match command {
        AuthCommand::Login { username } => {
            let path = user::save_name(&username)?;
            print_message(&format!("logged in as `{username}` (saved to {})", path.display()));
            Ok(())
        }
        AuthCommand::Whoami => {
            let user = User::resolve(global.user.as_deref())?;
            print(user.name.as_str())?;
            print_message(&format!("from {}", user.source));
            Ok(())
        }
        AuthCommand::Logout => {
            let text = if user::delete_saved_name()? {
                "logged out"
            } else {
                "not logged in"
            };
            print_message(text);
            Ok(())
        }
    }
}
