"""The compiled core under sanitizers: a native program that uses all of it, and how it and the extension are built."""
