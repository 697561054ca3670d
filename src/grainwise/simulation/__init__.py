"""What if time were free: virtual time and a pretend world, no policy."""
