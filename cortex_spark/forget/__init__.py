"""Take-downs: what is asked for, remembered first and removed then. The removal itself is ``table.removal``."""
