//! `k8s-cli auth ...`.

use crate::args::{AuthCommand, Global};
use crate::error::Result;
use crate::output::{print, say};
use crate::user::{self, User};

/// Runs the command.
///
/// # Errors
/// The file with the name cannot be read or written.
pub fn run(global: &Global, command: AuthCommand) -> Result<()> {
    match command {
        AuthCommand::Login { username } => {
            let path = user::save(&username)?;
            say(&format!("you are `{username}` from now on ({})", path.display()));
            Ok(())
        }
        AuthCommand::Whoami => {
            let user = User::find(global.user.as_deref())?;
            print(user.name.as_str())?;
            say(&format!("from {}", user.source));
            Ok(())
        }
        AuthCommand::Logout => {
            let text = if user::forget()? {
                "the saved name is forgotten"
            } else {
                "there was no saved name"
            };
            say(text);
            Ok(())
        }
    }
}
