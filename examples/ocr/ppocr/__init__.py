"""Text detection, line orientation and recognition with the PP-OCR models that ship inside two Python packages."""
