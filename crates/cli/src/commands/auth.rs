//! `k8s-cli auth`.

use crate::args::{AuthCommand, Global};
use crate::error::Result;
use crate::output::{print, say};
use crate::user::{self, User};

pub fn run(global: &Global, command: AuthCommand) -> Result<()> {
    match command {
        AuthCommand::Login { username } => {
            let path = user::save(&username)?;
            say(&format!("logged in as `{username}` (saved to {})", path.display()));
            Ok(())
        }
        AuthCommand::Whoami => {
            let user = User::find(global.user.as_deref())?;
            print(user.name.as_str())?;
            say(&format!("from {}", user.source));
            Ok(())
        }
        AuthCommand::Logout => {
            let text = if user::forget()? { "logged out" } else { "not logged in" };
            say(text);
            Ok(())
        }
    }
}
