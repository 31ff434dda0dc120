"""The runners: processes that claim work, have it done by workers, and record what came of it."""
