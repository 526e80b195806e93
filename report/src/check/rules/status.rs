//! The status of a location.

use super::super::findings::Findings;
use super::super::level::Readers;
use super::super::location::Location;
use super::super::model::Model;

/// Checks all locations with `request_cpu_status`.
pub fn check(model: &Model, found: &mut Findings) {
    for server in &model.servers {
        for Location { name, status, level, is_internal, .. } in &server.locations {
            let Some(place) = status else { continue };
            if model.zones.is_empty() {
                let message = format!("the status of location {name} shows no accounts: there is no zone");
                found.warn("status-without-zone", Some(place), message);
            }
            let Some(address) = server.public_address().filter(|_| !is_internal) else { continue };
            let reason = match level.readers() {
                Readers::Chosen => continue,
                Readers::Everyone => {
                    "use \"allow\" and \"deny all\", or write \"allow all\" if that is intended"
                }
                Readers::EveryoneInSpiteOfAllow => "\"allow\" has no effect without \"deny all\"",
                Readers::EveryoneInSpiteOfPassword => {
                    "\"auth_basic\" has no effect without \"auth_basic_user_file\""
                }
            };
            let message =
                format!("the status of location {name} is open to all clients of {address}: {reason}");
            found.warn("status-open", Some(place), message);
        }
    }
}
