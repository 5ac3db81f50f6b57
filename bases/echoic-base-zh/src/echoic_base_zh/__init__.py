"""The base `base-zh`, for echoic: the bundle beside this file."""
