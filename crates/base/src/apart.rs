/// Something on cache lines of its own, so that threads that write to its neighbours do not take it away. Two lines, for
/// processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Apart<T>(pub T);
