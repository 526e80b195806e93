//! Counters that outlive the memory they are in: `state=FILE` of `request_cpu_zone`.
//!
//! The master reads the file when it makes a zone's table. It writes the file when it ends, after its workers,
//! and when a reload takes the zone or the module away. Meanwhile one of the workers writes it once a minute,
//! so that a master that is killed, or a machine that fails, loses no more than that. Which one is decided by a
//! compare-and-swap in the table (`Table::claim_save`), so there is no lock that a worker could take with it.
//!
//! Writing takes place in a thread that lives just as long: it may have to wait for the disk, and the event
//! loop may not. It touches the table, which is made to be shared, and nothing of NGINX.
//!
//! While a configuration is being tried, the file is read and locked, but not changed: the reload may still fail.

pub mod file;
pub mod load;
pub mod lock;
pub mod locks;
pub mod save;
pub mod saver;
