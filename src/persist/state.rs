//! Counters that outlive their memory: `state=FILE` of `request_cpu_zone`.
//!
//! The master reads the file when it makes a zone's table. It writes the file when it ends, after its workers, and
//! when a reload removes the zone or the module. In the meantime, one of the workers writes the file once a minute. So
//! a killed master or a machine failure loses one minute at most. A compare-and-swap in the table selects the worker
//! (`Table::claim_save`), so there is no lock that a killed worker could leave locked.
//!
//! A thread writes the file, and ends afterwards. It may have to wait for the disk, which the event loop must not do.
//! The thread uses the table, which is made for sharing, and no part of NGINX.
//!
//! While a configuration is being tried, the file is read and locked, but not changed: the reload may still fail.

pub mod file;
pub mod load;
pub mod lock;
pub mod locks;
pub mod save;
pub mod saver;
