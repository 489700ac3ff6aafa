// Applies the appearance that was chosen in Settings before the first paint.
{
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch { /* storage is switched off in this browser */ }
  if (theme) document.documentElement.dataset.theme = theme;
}
