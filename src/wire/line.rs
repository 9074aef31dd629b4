//! CRLF framing with a bounded buffer.
