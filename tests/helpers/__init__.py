"""What tests share: waiting for facts, starting runners, looking at processes and at the file from outside."""
