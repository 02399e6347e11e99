"""The tasks, one small file for each set or family of sets: loader, prompt, grader."""
