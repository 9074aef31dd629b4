//! tmp
/// tmp
#[derive(Clone)]
pub struct Sessions;
