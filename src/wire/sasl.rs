//! SASL PLAIN and LOGIN exchanges.
