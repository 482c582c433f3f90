"""What every room stands on: errors, messages, settings, files that appear whole, processes, devices."""
