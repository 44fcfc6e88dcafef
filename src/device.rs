//! Which engine a call goes to: the one place that knows both.
