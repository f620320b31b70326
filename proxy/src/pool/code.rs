//! New code for a function: its instances and all that they hold are gone with the old
//! one, so its node is drained before.

use std::time::Duration;

use aws_sdk_lambda::{
    error::DisplayErrorContext,
    primitives::Blob,
    types::{LastUpdateStatus, State},
};
use tokio::time::{Instant, sleep};

use super::platform::{Platform, Way};

/// An update may take so long until it has its effect.
const LIMIT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);

impl Platform {
    /// Updates the code of a function, and returns when it has its effect.
    ///
    /// # Errors
    /// What the platform says.
    pub async fn update_code(&self, function: &str, zip: Vec<u8>) -> Result<(), String> {
        let Way::Sdk(client) = &self.0 else {
            return Err("functions of a simulation have no code".into());
        };
        let update = client.update_function_code().function_name(function);
        let sent = update.zip_file(Blob::new(zip)).send().await;
        sent.map_err(|e| DisplayErrorContext(e).to_string())?;
        let end = Instant::now() + LIMIT;
        loop {
            let asked = client.get_function_configuration().function_name(function);
            let now = asked.send().await;
            let now = now.map_err(|e| DisplayErrorContext(e).to_string())?;
            match (now.state(), now.last_update_status()) {
                (Some(State::Failed), _) | (_, Some(LastUpdateStatus::Failed)) => {
                    let why = now.last_update_status_reason().or(now.state_reason());
                    return Err(why.unwrap_or("it failed").to_owned());
                }
                (Some(State::Pending), _) | (_, Some(LastUpdateStatus::InProgress)) => {}
                _ => return Ok(()),
            }
            if Instant::now() >= end {
                return Err(format!("not done after {} s", LIMIT.as_secs()));
            }
            sleep(LOOK).await;
        }
    }
}
