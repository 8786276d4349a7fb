"""All Pillow work: encode, decode, metadata chunks, thumbnails."""
