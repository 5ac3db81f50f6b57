"""The base `base-en`, for echoic: the bundle beside this file."""
