//! What the fuzz target is made of.
//!
//! ```text
//!  walk      does with a container what a user may do          mutate   changes one, mostly below its hashes
//!  model     a container taken apart, and put together again   seal     makes the hashes right
//! ```

pub mod model;
pub mod mutate;
pub mod seal;
pub mod walk;
