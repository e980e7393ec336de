"""What does aggregation carry over? AMDM's merged first steps against injection, on held-out drawn scenes."""
