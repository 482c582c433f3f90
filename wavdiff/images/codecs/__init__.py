"""What is known of file formats: headers, segments, modes, palettes, Pillow and libvips."""
